"""Writers: one module a layout, named as its reader."""
