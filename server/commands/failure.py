"""Commands that end with one clear line."""

from server.errors import SwitchyardError


class CommandFailed(SwitchyardError):
    """A command that could not do what was asked; the message is all that its user needs."""

    code = "command_failed"
