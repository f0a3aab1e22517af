"""What the pages of the book call: notebook cells, tables, ablations, figures and images."""
