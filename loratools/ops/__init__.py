"""Operations on adapters: each is pure, streams module by module, and states its error."""
