module delay

go 1.24
