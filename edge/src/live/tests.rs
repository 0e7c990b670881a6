mod closing;
mod following;
mod polling;
mod resuming;
mod sending;
mod world;
