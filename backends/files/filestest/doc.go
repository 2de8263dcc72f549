// Package filestest provides disks that fail, for tests of whatever writes
// through backends/files.
//
// Mem is a filesystem in memory that loses on a crash what a POSIX disk may
// lose: content that was not synced, and directory entries whose directory was
// not synced. Inject and CrashAt wrap any filesystem, so that one operation fails,
// or the machine stops there. A test goes through all operations like this:
//
//	for n := 1; ; n++ {
//		disk := filestest.NewMem()
//		… build what is there before …
//		faulty := filestest.CrashAt(disk, n)
//		… do what is tested on faulty; errors are expected …
//		after := disk.Crash(filestest.KeepNone, 0)
//		… recover on after, and check …
//		if !faulty.Fired() {
//			break // n is beyond the last operation
//		}
//	}
//
// A program that is killed while the machine lives on loses nothing that it
// wrote: that is Crash with KeepAll.
package filestest
