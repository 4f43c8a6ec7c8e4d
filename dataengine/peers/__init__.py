"""Files that other programs want beside the tars: none of them changes a tar."""
