//! The contract of the decisions.

mod decisions;
mod table;
mod tenancy;
