"""What the pages of the book call: tables, figures, images, and the cells of a notebook."""
