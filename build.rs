//! Linker options of the two programs. Their packages name this file as their build script.
//!
//! Relative relocations are written in their packed form (`DT_RELR`) where the C library can read it (glibc
//! 2.36): otherwise each process reads 200 KiB of them at its start. A build for another machine decides by
//! itself (`RUSTFLAGS`).
#![expect(clippy::disallowed_methods, reason = "asks for the version of the C library, at build time")]

use std::{env, process::Command};

const FIRST_GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=../build.rs");
    let is_native = env::var("HOST").is_ok_and(|host| env::var("TARGET").is_ok_and(|target| host == target));
    if is_native && glibc().is_some_and(|version| version >= FIRST_GLIBC) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, if it is glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
