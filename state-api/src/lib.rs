//! What stream state is: keys, key groups, typed state, timers, operators and the portable snapshot format.
