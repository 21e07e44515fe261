"""What an earlier version has written is read, and its workers run beside those of this one."""
