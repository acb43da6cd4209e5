"""Several processes behind one port: `pool` starts and watches them, `worker` is one."""
