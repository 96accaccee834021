"""The Binance USD-M Futures face: REST, market streams and user data."""
