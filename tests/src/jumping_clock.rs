//! A library for `LD_PRELOAD`: for its process the clock on the wall is a day ahead in one second, and a day behind in the next.
//! Every other clock is as it was.
#![expect(unsafe_code, reason = "it stands in for a function of the C library")]

use std::ffi::{c_int, c_long};

const REALTIME: c_int = 0;
const MONOTONIC: c_int = 1;
const REALTIME_COARSE: c_int = 5;

const DAY: i64 = 24 * 60 * 60;

#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const CLOCK_GETTIME: c_long = 113;

/// The C library's `struct timespec`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

// SAFETY: it is declared as in the C library, whose `long` is `c_long`.
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Instead of the C library's.
///
/// # Safety
/// `time` points to a `struct timespec`.
// SAFETY: it has the signature of the function whose name it takes, and does what that does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    // SAFETY: the arguments are those of the system call, and the caller vouches for the pointer.
    let done = unsafe { syscall(CLOCK_GETTIME, c_long::from(clock), time) };
    if done == 0 && (clock == REALTIME || clock == REALTIME_COARSE) {
        let mut monotonic = Timespec::default();
        // SAFETY: the arguments are those of the system call, and the pointer is to a `struct timespec` of our own.
        unsafe { syscall(CLOCK_GETTIME, c_long::from(MONOTONIC), &raw mut monotonic) };
        let jump = if monotonic.seconds % 2 == 0 { DAY } else { -DAY };
        // SAFETY: the system call has just written there.
        unsafe { (*time).seconds += jump };
    }
    // It is 0 or -1.
    done as c_int
}
