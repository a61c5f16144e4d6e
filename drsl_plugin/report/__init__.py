"""``drsl report``: one HTML page from what runs leave on disk; knows no toolbox."""
