"""Nothing secret or personal leaves the machine: redaction, and usage reporting of dependencies switched off."""
