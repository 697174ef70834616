package postgrestest

import "syscall"

// endWithUs ends the server when the tests are killed, which gives Main no chance to.
func endWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
