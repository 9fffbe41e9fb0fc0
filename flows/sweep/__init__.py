"""The flow `gan-sweep`: trials that Optuna proposes, each a flow run of `gan-training`."""
