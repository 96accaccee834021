"""The Bybit V5 face, category `linear`: REST, public and private WebSocket."""
