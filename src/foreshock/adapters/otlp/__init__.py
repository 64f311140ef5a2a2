"""OpenTelemetry's protocol (OTLP 1.x): metrics as collectors and SDKs send them."""
