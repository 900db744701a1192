//! The private parts of the program, for `tests/sim` and `tests/fuzz`. Compiled only with the feature `simulation`, which a
//! release never has.

pub mod core {
    pub use crate::core::*;
}

pub mod controller {
    pub use crate::controller::*;
}

pub mod kubernetes {
    pub use crate::kubernetes::*;
}

pub mod runtime {
    pub use crate::runtime::*;
}

pub mod telemetry {
    pub use crate::telemetry::*;
}

pub use crate::clock::Clock;
