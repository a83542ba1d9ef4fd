//! Short programs: the first minute of each kind of user.
