module plugins/{{name}}

go 1.25

require (
	go.bytecodealliance.org/pkg v0.0.0
	tidegate v0.0.0
)

replace (
	go.bytecodealliance.org/pkg => ./build/go-runtime
	tidegate => ./build/go
)
