"""What a run found: results, tables, figures, pages."""
