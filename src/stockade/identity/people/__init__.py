"""The people of the authorization server: accounts, passwords, sessions and the way in. No HTML; that is `pages`."""
