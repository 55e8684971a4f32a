// A client made of oras-go, the library that the oras command line is made of:
//
//	copy FROM TO                         an image with all that it consists of; prints its digest
//	attach SUBJECT ARTIFACT-TYPE TEXT    pushes an artifact that refers to the subject; prints its descriptor
//	discover SUBJECT [ARTIFACT-TYPE]     prints the descriptors of what refers to the subject, as a JSON array
//
// FROM, TO and SUBJECT are HOST:PORT/REPOSITORY:TAG, spoken to by plain HTTP, or layout:FOLDER:TAG for an OCI image
// layout. ORAS_USERNAME and ORAS_PASSWORD are the credential for every registry, if they are set.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const layerType = "text/plain"

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "copy":
		return copyImage(ctx, args[1], args[2])
	case len(args) == 4 && args[0] == "attach":
		return attach(ctx, args[1], args[2], args[3])
	case len(args) == 2 && args[0] == "discover":
		return discover(ctx, args[1], "")
	case len(args) == 3 && args[0] == "discover":
		return discover(ctx, args[1], args[2])
	}
	return fmt.Errorf("copy FROM TO | attach SUBJECT ARTIFACT-TYPE TEXT | discover SUBJECT [ARTIFACT-TYPE]")
}

func copyImage(ctx context.Context, from, to string) error {
	source, sourceTag, err := open(from)
	if err != nil {
		return err
	}
	target, targetTag, err := open(to)
	if err != nil {
		return err
	}
	root, err := oras.Copy(ctx, source, sourceTag, target, targetTag, oras.DefaultCopyOptions)
	if err != nil {
		return err
	}
	fmt.Println(root.Digest)
	return nil
}

func attach(ctx context.Context, name, artifactType, text string) error {
	repository, subject, err := resolve(ctx, name)
	if err != nil {
		return err
	}
	staged := memory.New()
	layer := content.NewDescriptorFromBytes(layerType, []byte(text))
	if err := staged.Push(ctx, layer, strings.NewReader(text)); err != nil {
		return err
	}
	manifest, err := oras.PackManifest(ctx, staged, oras.PackManifestVersion1_1, artifactType, oras.PackManifestOptions{
		Subject:             &subject,
		Layers:              []ocispec.Descriptor{layer},
		ManifestAnnotations: map[string]string{"e2e.text": text},
	})
	if err != nil {
		return err
	}
	// The subject is there already.
	options := oras.DefaultCopyGraphOptions
	options.FindSuccessors = func(ctx context.Context, fetcher content.Fetcher, node ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		all, err := content.Successors(ctx, fetcher, node)
		others := []ocispec.Descriptor{}
		for _, one := range all {
			if one.Digest != subject.Digest {
				others = append(others, one)
			}
		}
		return others, err
	}
	if err := oras.CopyGraph(ctx, staged, repository, manifest, options); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(manifest)
}

func discover(ctx context.Context, name, artifactType string) error {
	repository, subject, err := resolve(ctx, name)
	if err != nil {
		return err
	}
	found, err := registry.Referrers(ctx, repository, subject, artifactType)
	if err != nil {
		return err
	}
	if found == nil {
		found = []ocispec.Descriptor{}
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func resolve(ctx context.Context, name string) (*remote.Repository, ocispec.Descriptor, error) {
	repository, tag, err := openRemote(name)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	subject, err := repository.Resolve(ctx, tag)
	return repository, subject, err
}

func open(name string) (oras.Target, string, error) {
	layout, isLayout := strings.CutPrefix(name, "layout:")
	if !isLayout {
		return openRemote(name)
	}
	at := strings.LastIndex(layout, ":")
	if at < 0 {
		return nil, "", fmt.Errorf("no tag in %s", name)
	}
	store, err := oci.New(layout[:at])
	return store, layout[at+1:], err
}

func openRemote(name string) (*remote.Repository, string, error) {
	reference, err := registry.ParseReference(name)
	if err != nil {
		return nil, "", err
	}
	repository, err := remote.NewRepository(name)
	if err != nil {
		return nil, "", err
	}
	repository.PlainHTTP = true
	// As the oras command line has it: ghcr.io deletes nothing.
	repository.SkipReferrersGC = true
	if username := os.Getenv("ORAS_USERNAME"); username != "" {
		credential := auth.Credential{Username: username, Password: os.Getenv("ORAS_PASSWORD")}
		repository.Client = &auth.Client{
			Cache:      auth.NewCache(),
			Credential: auth.StaticCredential(reference.Registry, credential),
		}
	}
	return repository, reference.Reference, nil
}
