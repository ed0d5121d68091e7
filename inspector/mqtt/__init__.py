"""The station's decisions and state for line and plant: MQTT 5 and Sparkplug B. Reporting only: it passes no part."""


class MqttError(Exception):
    """The broker cannot be used, or says no; the text names address, key or topic and says what to do."""
