"""The demo's data: photographs that come with scikit-image, annotated for this project in their original layouts."""
