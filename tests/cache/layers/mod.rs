//! The layers one by one, with calls that come between the steps of others. Needs `test-util`.

mod hooked;
mod index;
mod leases;
mod races;
