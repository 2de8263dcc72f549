package examples

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A process is a server that a test started. It ends with the test, and with the
// program that runs the test, however that ends.
type process struct {
	cmd  *exec.Cmd
	log  string        // path of the file that it writes to
	done chan struct{} // closed when it has ended
}

// start starts a server, and has the end of the test end it with the signal.
func start(t *testing.T, cmd *exec.Cmd, log string, end syscall.Signal) *process {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = end
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The child dies with the thread that made it: prctl(2), PR_SET_PDEATHSIG.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // ProcessState tells how it ended
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t, end) })
	return p
}

// stop fails the test if the server does not end, or leaves a process behind.
func (p *process) stop(t *testing.T, end syscall.Signal) {
	if p.ended() {
		return
	}
	if err := p.cmd.Process.Signal(end); err != nil {
		t.Error(err)
	}
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not end", p.cmd.Path)
	}
	if !p.alone() {
		err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		t.Errorf("%s left processes behind: %v", p.cmd.Path, err)
		<-p.done
	}
}

// alone tells whether nothing is left of the server's process group. What it told to
// end, as haproxy does with the workers of before a reload, may take a moment to.
func (p *process) alone() bool {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if errors.Is(syscall.Kill(-p.cmd.Process.Pid, 0), syscall.ESRCH) {
			return true
		}
	}
	return false
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
