package greet

// Hello greets.
func Hello(name string) string {
	if name == "" {
		name = "world"
	}
	return "hello, " + name
}
