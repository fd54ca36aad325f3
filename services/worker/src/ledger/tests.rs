mod baseline;
mod faults;
mod legacy;
mod limits;
mod model;
mod publishers;
mod silence;
mod timers;
