//! The load test from the outside: the real program against the real server. One binary, so that it is linked once.

mod compare;
mod idle;
mod interrupt;
mod run;
mod support;
mod survey;
