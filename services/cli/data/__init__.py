"""The demo's input: two traces of a public data set, and a catalogue to bill them by."""
