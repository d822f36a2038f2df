"""alm-proxies."""
