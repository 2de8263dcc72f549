package spec

func (d *loader) checkTargets() {}
