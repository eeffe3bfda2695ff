"""What is computed: checkpoints, experts, bundles and the tasks that measure them."""
