"""The whole installation in one file: made while everything runs, checked before anything is touched, put back."""


class BackupError(Exception):
    """Why a backup or a restore cannot be done: one line."""


class DamagedDatabase(BackupError):
    """The present database cannot be read as one."""
