"""From chunks to views in compiled passes, on a CPU; all but the last where a batch shares its draws.

``lanes`` holds the vector instructions, ``kernels`` the loops over voxels, ``coupled`` what calls them, ``finish`` the
last pass. They give what the torch operations of the folder above give, which everything else takes.
"""
