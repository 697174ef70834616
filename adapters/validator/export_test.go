package validator

// TimeLimit is timeLimit.
var TimeLimit = timeLimit
