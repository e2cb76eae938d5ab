"""What the traffic and operators want resident, and how the engine hears of it."""
