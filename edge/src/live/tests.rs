mod closing;
mod following;
mod polling;
mod racing;
mod resuming;
mod sending;
mod world;
