"""Files and what lies in them: sources of rows, and files that are written whole and notice damage."""
