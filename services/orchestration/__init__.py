"""Payments: reads whatever a merchant sends, plans it over payment methods, and charges each step once and only
once, through kill -9, lost answers and processors that refuse; an outcome that is not known is asked after until
there is proof."""
