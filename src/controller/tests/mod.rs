//! The controller in a simulated world, through the very code that production runs: no runtime, no waiting.

mod faults;
mod life;
mod tokens;
mod world;
