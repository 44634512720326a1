"""The product pack 'guard': a TEST product of ours, which stands for no real one."""
