//! Whether a program can run where nothing else is: an ELF file for Linux without a dynamic loader.

use std::fmt;

/// The processor, in the words of the OCI image specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

impl Architecture {
    /// As the image's documents and the archive's name have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a program is not put into an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Not ELF of 64 bits, least significant byte first, or cut off.
    NotElf,
    /// `e_machine` is neither of the two.
    Machine(u16),
    /// Asks for a dynamic loader, which the image does not have.
    Dynamic,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NotElf => f.write_str("is no 64-bit little-endian ELF program"),
            Unfit::Machine(machine) => {
                write!(f, "is for ELF machine {machine}, and neither for x86_64 nor for aarch64")
            }
            Unfit::Dynamic => {
                f.write_str("needs a dynamic loader: build it with -C target-feature=+crt-static")
            }
        }
    }
}

impl std::error::Error for Unfit {}

/// Offsets and values of ELF-64, as `elf(5)` names them.
mod elf {
    pub const IDENT: &[u8] = b"\x7fELF\x02\x01";
    pub const E_MACHINE: usize = 18;
    pub const E_PHOFF: usize = 32;
    pub const E_PHENTSIZE: usize = 54;
    pub const E_PHNUM: usize = 56;
    pub const PT_INTERP: u32 = 3;
    pub const EM_X86_64: u16 = 62;
    pub const EM_AARCH64: u16 = 183;
}

/// For which processor the program is, if it needs nothing but the kernel.
pub fn architecture(program: &[u8]) -> Result<Architecture, Unfit> {
    if !program.starts_with(elf::IDENT) {
        return Err(Unfit::NotElf);
    }
    let architecture = match u16::from_le_bytes(bytes(program, elf::E_MACHINE)?) {
        elf::EM_X86_64 => Architecture::Amd64,
        elf::EM_AARCH64 => Architecture::Arm64,
        other => return Err(Unfit::Machine(other)),
    };
    let table = u64::from_le_bytes(bytes(program, elf::E_PHOFF)?);
    let table = usize::try_from(table).map_err(|_| Unfit::NotElf)?;
    let size = usize::from(u16::from_le_bytes(bytes(program, elf::E_PHENTSIZE)?));
    for index in 0..usize::from(u16::from_le_bytes(bytes(program, elf::E_PHNUM)?)) {
        let entry = table.checked_add(index * size).ok_or(Unfit::NotElf)?;
        if u32::from_le_bytes(bytes(program, entry)?) == elf::PT_INTERP {
            return Err(Unfit::Dynamic);
        }
    }
    Ok(architecture)
}

fn bytes<const N: usize>(program: &[u8], at: usize) -> Result<[u8; N], Unfit> {
    program.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Unfit::NotElf)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a program with one entry of the given type in its table.
    fn program(machine: u16, entry: u32) -> Vec<u8> {
        let mut program = vec![0; 64];
        program[..elf::IDENT.len()].copy_from_slice(elf::IDENT);
        program[elf::E_MACHINE..][..2].copy_from_slice(&machine.to_le_bytes());
        program[elf::E_PHOFF..][..8].copy_from_slice(&64_u64.to_le_bytes());
        program[elf::E_PHENTSIZE..][..2].copy_from_slice(&56_u16.to_le_bytes());
        program[elf::E_PHNUM..][..2].copy_from_slice(&1_u16.to_le_bytes());
        program.extend(entry.to_le_bytes());
        program.extend([0; 52]);
        program
    }

    #[test]
    fn a_static_program_says_its_processor() {
        assert_eq!(architecture(&program(62, 1)), Ok(Architecture::Amd64));
        assert_eq!(architecture(&program(183, 1)), Ok(Architecture::Arm64));
    }

    #[test]
    fn what_would_not_run_is_refused() {
        assert_eq!(architecture(&program(62, elf::PT_INTERP)), Err(Unfit::Dynamic));
        assert_eq!(architecture(&program(243, 1)), Err(Unfit::Machine(243)));
        assert_eq!(architecture(b"#!/bin/sh\n"), Err(Unfit::NotElf));
        assert_eq!(architecture(b""), Err(Unfit::NotElf));
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused_and_not_a_panic() {
        let whole = program(62, 1);
        for length in 0..=64 {
            assert_eq!(architecture(&whole[..length]), Err(Unfit::NotElf), "{length} bytes");
        }
        let mut lying = whole;
        lying[elf::E_PHOFF..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(architecture(&lying), Err(Unfit::NotElf));
    }
}
