"""Node.js and the TypeScript client in tests."""
