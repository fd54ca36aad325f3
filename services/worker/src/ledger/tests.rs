mod baseline;
mod faults;
mod legacy;
mod limits;
mod model;
mod silence;
mod timers;
