"""Calls of the command line in this process."""

from fromnoise.cli import main


def call(capsys, *args):
    """Exit code, stdout, stderr."""
    code = main([str(a) for a in args])
    out = capsys.readouterr()
    return code, out.out, out.err


def fails(capsys, code, *args, says=()):
    """The command ends with this code and one line that holds all of ``says``."""
    found, out, err = call(capsys, *args)
    lines = [line for line in err.splitlines() if not line.startswith("warning")]
    assert found == code, (found, out, err)
    assert (
        len(lines) == 1 and lines[0].startswith("fromnoise: ") and "Traceback" not in err + out
    ), err
    for word in says:
        assert str(word) in lines[0], (word, lines[0])
    return lines[0]
