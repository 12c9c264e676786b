"""From chunks to resampled views in two compiled passes, on a CPU and where a batch shares its positions.

``lanes`` holds the vector instructions, ``kernels`` the loops over voxels, ``coupled`` what calls them. The same values
as the torch operations of the folder above give, which everything else takes.
"""
