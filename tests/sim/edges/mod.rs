//! The edges: the real watch, write, lease and client layers, the real elector and the real runtime, on a service that
//! answers their requests from the store of the model. The clock is paused, so a scenario of minutes takes milliseconds.
//!
//! | part | what it is |
//! |---|---|
//! | `call` | the shapes of request that the program sends |
//! | `rules` | the faults of single requests |
//! | `server`, `objects`, `watching` | the service |
//! | `process` | one process of the program on the service |
//! | `scenarios` | what happens around it, as data |
//! | `oracles` | what must hold in every scenario |
//! | `guards` | scenarios in which it holds |

mod call;
mod guards;
mod objects;
mod oracles;
mod process;
mod rules;
mod scenarios;
mod server;
mod watching;
