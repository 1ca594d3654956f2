"""Cards: their list, the editor, the page agents see."""
