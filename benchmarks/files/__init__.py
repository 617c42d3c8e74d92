"""Are files whole when the process that writes them is killed?"""
